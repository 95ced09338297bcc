CREATE TABLE `order_keys` (
	`order_id` varchar(97) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	`kek` varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	`wrapped` varchar(96) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	`created_at` timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
	CONSTRAINT `order_keys_order_id` PRIMARY KEY(`order_id`)
);
