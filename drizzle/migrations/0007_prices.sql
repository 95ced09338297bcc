CREATE TABLE `prices` (
	`shop` varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
	`sku` varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
	`valid_from` timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
	`amount` decimal(14,2) NOT NULL,
	`currency` varchar(3) CHARACTER SET utf8mb4 NOT NULL,
	CONSTRAINT `prices_shop_sku_valid_from_pk` PRIMARY KEY(`shop`,`sku`,`valid_from`)
);
