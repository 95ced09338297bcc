-- Text of any script, whatever character set the database was created with. Where it was utf8mb4 with its default collation,
-- only the table's description changes; elsewhere the table is copied once, and writes to it wait. The ids stay ascii.
ALTER TABLE `orders`
	MODIFY COLUMN `state` varchar(32) CHARACTER SET utf8mb4 NOT NULL,
	MODIFY COLUMN `currency` varchar(3) CHARACTER SET utf8mb4,
	MODIFY COLUMN `policy` varchar(32) CHARACTER SET utf8mb4,
	MODIFY COLUMN `workflow_id` varchar(1000) CHARACTER SET utf8mb4 NOT NULL,
	MODIFY COLUMN `step` varchar(32) CHARACTER SET utf8mb4 NOT NULL,
	MODIFY COLUMN `reason` varchar(32) CHARACTER SET utf8mb4,
	MODIFY COLUMN `cancel_reason` varchar(255) CHARACTER SET utf8mb4,
	MODIFY COLUMN `last_error` text CHARACTER SET utf8mb4,
	MODIFY COLUMN `dispatch_failed_reason` text CHARACTER SET utf8mb4;
--> statement-breakpoint
ALTER TABLE `payments`
	MODIFY COLUMN `status` varchar(16) CHARACTER SET utf8mb4 NOT NULL,
	MODIFY COLUMN `currency` varchar(3) CHARACTER SET utf8mb4 NOT NULL;
--> statement-breakpoint
ALTER TABLE `shipments` MODIFY COLUMN `status` varchar(16) CHARACTER SET utf8mb4 NOT NULL;
--> statement-breakpoint
ALTER TABLE `events` MODIFY COLUMN `type` varchar(32) CHARACTER SET utf8mb4 NOT NULL;
--> statement-breakpoint
ALTER TABLE `attempts`
	MODIFY COLUMN `step` varchar(32) CHARACTER SET utf8mb4 NOT NULL,
	MODIFY COLUMN `error` varchar(500) CHARACTER SET utf8mb4 NOT NULL;
--> statement-breakpoint
ALTER TABLE `capacity`
	ADD `open_orders` int DEFAULT 0 NOT NULL,
	ADD `counted_at` timestamp(6) DEFAULT CURRENT_TIMESTAMP(6) NOT NULL,
	ADD `next_count_at` timestamp(6) DEFAULT CURRENT_TIMESTAMP(6) NOT NULL;
