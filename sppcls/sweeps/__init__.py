"""Many runs from one command: which jobs there are, and each of them in a process of its own."""
