-- For docker-compose.yaml: run once, when the server initialises a new volume. migrate gives the accounts their rights (grants.ts).
CREATE USER trellis_api IDENTIFIED BY 'trellisApiPW';
CREATE USER trellis_worker IDENTIFIED BY 'trellisWorkerPW';
-- The account of migrate, which the image has made.
GRANT ALL ON trellis.* TO trellis WITH GRANT OPTION;
