-- What the unsharded keyspace holds besides the tables that `npm run migrate` makes there: for each payment id the shard of
-- its order, and the next ids of the tables whose rows are numbered.
CREATE TABLE payments_lookup (
  payment_id varchar(97) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  keyspace_id varbinary(128) NOT NULL
);
CREATE TABLE sandbox_charges_lookup (
  payment_id varchar(97) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  keyspace_id varbinary(128) NOT NULL
);
CREATE TABLE shipments_seq (id int PRIMARY KEY, next_id bigint, cache bigint) COMMENT 'vitess_sequence';
CREATE TABLE events_seq (id int PRIMARY KEY, next_id bigint, cache bigint) COMMENT 'vitess_sequence';
CREATE TABLE attempts_seq (id int PRIMARY KEY, next_id bigint, cache bigint) COMMENT 'vitess_sequence';
INSERT INTO shipments_seq (id, next_id, cache) VALUES (0, 1, 1000);
INSERT INTO events_seq (id, next_id, cache) VALUES (0, 1, 1000);
INSERT INTO attempts_seq (id, next_id, cache) VALUES (0, 1, 1000);
