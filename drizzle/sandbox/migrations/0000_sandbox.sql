-- Up to version 0.2.0 these tables were made by the product's migrations, so a database may have them already.
CREATE TABLE IF NOT EXISTS `sandbox_charges` (
	`payment_id` varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	`order_id` varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	`status` varchar(16) NOT NULL,
	`amount` decimal(14,2),
	`currency` varchar(3),
	`created_at` timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
	`updated_at` timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
	CONSTRAINT `sandbox_charges_payment_id` PRIMARY KEY(`payment_id`),
	INDEX `sandbox_charges_by_order` (`order_id`)
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS `sandbox_parcels` (
	`order_id` varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	`status` varchar(16) NOT NULL,
	`tracking` varchar(64),
	`address_json` json,
	`created_at` timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
	`updated_at` timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
	CONSTRAINT `sandbox_parcels_order_id` PRIMARY KEY(`order_id`)
);
