CREATE TABLE `capacity` (
	`id` tinyint NOT NULL,
	`orders_per_second` double NOT NULL,
	`busy_until` timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
	CONSTRAINT `capacity_id` PRIMARY KEY(`id`)
);
--> statement-breakpoint
CREATE INDEX `orders_by_update` ON `orders` (`updated_at`);
--> statement-breakpoint
-- Until the workers have measured themselves: eight orders a second, and so forty at once.
INSERT INTO `capacity` (`id`, `orders_per_second`) VALUES (1, 8);
