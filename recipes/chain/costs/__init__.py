"""What benchmarks and the rehearsal share: images, loops, and what each takes."""
