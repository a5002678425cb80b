"""What every stage needs and nothing of the field: errors, params, runtime, tables, tensors, running a stage."""
