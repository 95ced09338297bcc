-- The events of an order are chained by hashes (drizzle/event-chain.ts). The new columns are empty: an order's chain begins with its
-- first event that has a hash. This changes the tables' descriptions only.
ALTER TABLE `events`
	ADD `hash` varchar(64) CHARACTER SET ascii COLLATE ascii_bin,
	ADD `salt` varchar(32) CHARACTER SET ascii COLLATE ascii_bin;
--> statement-breakpoint
ALTER TABLE `orders` ADD `last_event_hash` varchar(64) CHARACTER SET ascii COLLATE ascii_bin;
