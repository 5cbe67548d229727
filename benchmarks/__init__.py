"""What encryption costs, next to bare AES-GCM, to plain columns and to other libraries."""
