"""Models and indexes: texts to vectors, vectors to documents, words to documents."""
