ALTER TABLE `sandbox_charges`
	MODIFY COLUMN `status` varchar(16) CHARACTER SET utf8mb4 NOT NULL,
	MODIFY COLUMN `currency` varchar(3) CHARACTER SET utf8mb4;
--> statement-breakpoint
ALTER TABLE `sandbox_parcels`
	MODIFY COLUMN `status` varchar(16) CHARACTER SET utf8mb4 NOT NULL,
	MODIFY COLUMN `tracking` varchar(128) CHARACTER SET utf8mb4;
