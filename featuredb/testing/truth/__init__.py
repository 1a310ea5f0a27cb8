"""What labels and audits are measured on: stores of real weights, planted truth, and the nulls beside them."""
