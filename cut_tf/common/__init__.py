"""What every room may use: errors, tables of names, files, pictures as bytes, windows of pixels."""
