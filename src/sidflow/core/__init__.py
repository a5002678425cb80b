"""Infrastructure of all stages: errors, params, runtime, tables, tensors, running a stage."""
