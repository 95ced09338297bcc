ALTER TABLE `sandbox_charges`
	MODIFY COLUMN `payment_id` varchar(97) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	MODIFY COLUMN `order_id` varchar(97) CHARACTER SET ascii COLLATE ascii_bin NOT NULL;
--> statement-breakpoint
ALTER TABLE `sandbox_parcels` MODIFY COLUMN `order_id` varchar(97) CHARACTER SET ascii COLLATE ascii_bin NOT NULL;
