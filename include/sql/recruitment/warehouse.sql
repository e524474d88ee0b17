-- Recruitment: the jobs, a dimension. The facts are declared in include/pipelines/recruitment.py.

CREATE TABLE IF NOT EXISTS recruitment.job (
  id BIGINT NOT NULL,
  title VARCHAR(500) NULL,
  status VARCHAR(40) NULL,
  group_id BIGINT NULL,
  campaign_id BIGINT NULL,
  company_id BIGINT NULL,
  created_date DATETIME(6) NULL,
  last_modified_date DATETIME(6) NULL,
  PRIMARY KEY (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
