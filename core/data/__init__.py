"""Data from outside, read once and in one way: a user's file gives the same cells and findings in every domain.

    table = read_table(data.path, missing=data.missing, decimal=data.decimal)      csv, parquet, xlsx, "-", a DataFrame
    table.refuse_ragged()                                    or table.ragged: {row: cells} to skip and name them
    names = table.cells("smiles")                            text, "" where empty; table.names are the columns
    column = table.numbers("logP")                           float64 [n] in .values, NaN = missing; .unread, .censored
    if column.problem: raise UserError(f'{table.origin}: column "logP": {column.problem}')
    if column.unread: table.say(f"count as missing: {table.shown(column.unread)}", "logP")
    where = f"{table.origin} {table.row_name(7)}"            "t.csv line 9", as an editor numbers it
    given = read_splits(table.cells("split"), "split", lambda row: f"{table.origin} {table.row_name(row)}")
    rows = split_rows(given, stratify(labels, "multiclass"), group, seed=0, test_fraction=0.1, val_fraction=0.1)
    notes = [str(finding) for finding in table.findings]     all that was chosen: encoding, delimiter, marks, units

read      read_table: what a source is, and its reader           text       bytes -> characters: gzip, encodings, limits
delimited characters -> cells: preamble, delimiter, names        numbers    cells -> numbers: marks, units, bounds
typed     parquet, spreadsheets, DataFrames                      writers    csv, parquet and npz for results
table     Table, what all of these give                          missing    words and codes that mean "no value"
notation  a cell of a number taken apart                         frame      a table as a pandas DataFrame
findings  Finding, one line about what was chosen                splits     words, shares, whole groups
embedded  files inside installed packages, by their SHA-256      plain      large plain texts, by pyarrow
"""
