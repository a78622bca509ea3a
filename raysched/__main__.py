from raysched.cli import main

main()
