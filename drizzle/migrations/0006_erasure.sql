-- When the personal data of an order was erased. NULL is spelled out: some servers make a timestamp without it NOT NULL.
ALTER TABLE `orders` ADD `erased_at` timestamp(3) NULL;
