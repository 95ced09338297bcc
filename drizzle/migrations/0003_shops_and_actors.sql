-- The ids of orders and payments begin with their shop's, and events name who did it. What widens a column and what adds one is done
-- apart, as together they would have the server copy the table.
ALTER TABLE `orders`
	MODIFY COLUMN `id` varchar(97) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	MODIFY COLUMN `payment_id` varchar(97) CHARACTER SET ascii COLLATE ascii_bin;
--> statement-breakpoint
ALTER TABLE `orders` ADD `shop` varchar(32) CHARACTER SET ascii COLLATE ascii_bin DEFAULT '' NOT NULL;
--> statement-breakpoint
ALTER TABLE `payments`
	MODIFY COLUMN `payment_id` varchar(97) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	MODIFY COLUMN `order_id` varchar(97) CHARACTER SET ascii COLLATE ascii_bin NOT NULL;
--> statement-breakpoint
ALTER TABLE `shipments` MODIFY COLUMN `order_id` varchar(97) CHARACTER SET ascii COLLATE ascii_bin NOT NULL;
--> statement-breakpoint
ALTER TABLE `events` MODIFY COLUMN `order_id` varchar(97) CHARACTER SET ascii COLLATE ascii_bin NOT NULL;
--> statement-breakpoint
ALTER TABLE `events` ADD `actor_json` json;
--> statement-breakpoint
ALTER TABLE `attempts` MODIFY COLUMN `order_id` varchar(97) CHARACTER SET ascii COLLATE ascii_bin NOT NULL;
--> statement-breakpoint
CREATE INDEX `orders_of_shop` ON `orders` (`shop`,`created_at`,`id`);
--> statement-breakpoint
CREATE INDEX `orders_of_shop_by_state` ON `orders` (`shop`,`state`,`created_at`,`id`);
--> statement-breakpoint
CREATE TABLE `shop_capacity` (
	`shop` varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	`busy_until` timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
	CONSTRAINT `shop_capacity_shop` PRIMARY KEY(`shop`)
);
