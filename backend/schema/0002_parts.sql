-- chDB writes a merge in part where a disk is full, and takes no notice: the parts that were
-- merged must outlive the next look at it (backend/adapters/chdb_parts.py). chDB's default is
-- none at all, a server's this. A power cut needs them as well, for what merges write is not synced.
-- Loading the table must not stop at a merge that is not whole, however large it is.
ALTER TABLE events MODIFY SETTING
    old_parts_lifetime = 480,
    max_suspicious_broken_parts_bytes = 1099511627776;
