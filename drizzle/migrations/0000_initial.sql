CREATE TABLE `attempts` (
	`id` bigint AUTO_INCREMENT NOT NULL,
	`order_id` varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	`step` varchar(32) NOT NULL,
	`attempt` int NOT NULL,
	`error` varchar(500) NOT NULL,
	`ts` timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
	CONSTRAINT `attempts_id` PRIMARY KEY(`id`)
);
--> statement-breakpoint
CREATE TABLE `events` (
	`id` bigint AUTO_INCREMENT NOT NULL,
	`order_id` varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	`type` varchar(32) NOT NULL,
	`payload_json` json,
	`ts` timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
	`dedupe_key` varchar(160) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	CONSTRAINT `events_id` PRIMARY KEY(`id`),
	CONSTRAINT `events_once` UNIQUE(`order_id`,`dedupe_key`)
);
--> statement-breakpoint
CREATE TABLE `orders` (
	`id` varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	`state` varchar(32) NOT NULL,
	`address_json` json,
	`created_at` timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
	`updated_at` timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
	`payment_id` varchar(64) CHARACTER SET ascii COLLATE ascii_bin,
	`items_json` json,
	`amount` decimal(14,2),
	`currency` varchar(3),
	`policy` varchar(32),
	`request_hash` varchar(64) CHARACTER SET ascii COLLATE ascii_bin,
	`workflow_id` varchar(255) NOT NULL,
	`run_id` varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	`step` varchar(32) NOT NULL,
	`approved` boolean NOT NULL DEFAULT false,
	`reason` varchar(32),
	`cancel_reason` varchar(255),
	`child_attempts` int NOT NULL DEFAULT 0,
	`last_error` text,
	`dispatch_failed_reason` text,
	CONSTRAINT `orders_id` PRIMARY KEY(`id`)
);
--> statement-breakpoint
CREATE TABLE `payments` (
	`payment_id` varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	`order_id` varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	`status` varchar(16) NOT NULL,
	`amount` decimal(14,2) NOT NULL,
	`currency` varchar(3) NOT NULL,
	`created_at` timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
	`updated_at` timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
	CONSTRAINT `payments_payment_id` PRIMARY KEY(`payment_id`)
);
--> statement-breakpoint
CREATE TABLE `shipments` (
	`id` bigint AUTO_INCREMENT NOT NULL,
	`order_id` varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	`status` varchar(16) NOT NULL,
	`payload_json` json,
	`ts` timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
	`attempt` int NOT NULL,
	CONSTRAINT `shipments_id` PRIMARY KEY(`id`),
	CONSTRAINT `shipments_by_try` UNIQUE(`order_id`,`attempt`)
);
--> statement-breakpoint
CREATE INDEX `attempts_by_order` ON `attempts` (`order_id`,`id`);--> statement-breakpoint
CREATE INDEX `orders_by_age` ON `orders` (`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `orders_by_state` ON `orders` (`state`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `payments_by_order` ON `payments` (`order_id`);