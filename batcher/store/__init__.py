"""The store: tables and queries on SQLite or PostgreSQL. SQL is the truth; everything else can be lost."""
