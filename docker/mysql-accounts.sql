-- Accounts of the MySQL container, created when its volume is new. The set-up DAG grants etl and bi what they need.
CREATE USER 'minutemark_admin'@'%' IDENTIFIED BY 'local-only-admin';
GRANT ALL PRIVILEGES ON *.* TO 'minutemark_admin'@'%' WITH GRANT OPTION;
CREATE USER 'etl'@'%' IDENTIFIED BY 'local-only-etl';
CREATE USER 'bi'@'%' IDENTIFIED BY 'local-only-bi';
