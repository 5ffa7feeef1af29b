"""What the benchmarks and the rehearsal run: samplers, loops, crowds, and what each takes."""
