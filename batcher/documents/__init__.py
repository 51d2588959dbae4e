"""Sources, recognition, parsers and chunking: from paths to documents, parsed or rejected with a reason."""
