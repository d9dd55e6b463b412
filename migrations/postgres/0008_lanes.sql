-- Steps whose code runs outside of the host wait in lanes of their own, so that a host claims what it has room for and nothing else.

-- `docker`, `http` or `worker/QUEUE`; NULL: run in the host's process, as almost all are.
ALTER TABLE tasks ADD COLUMN lane text COLLATE "C";

-- 4: ready in `lane`, for hosts with room there.
ALTER TABLE queue DROP CONSTRAINT queue_place_check;
ALTER TABLE queue ADD COLUMN lane text COLLATE "C";
ALTER TABLE queue ADD CONSTRAINT queue_place_check CHECK (place BETWEEN 0 AND 4);
ALTER TABLE queue ADD CONSTRAINT queue_lane_check CHECK ((place = 4) = (lane IS NOT NULL));

-- Tx::ready_in and Tx::fair_in, and how many wait in a lane.
CREATE INDEX queue_lanes ON queue (lane, priority DESC, rank, task_id) WHERE place = 4;

-- Where a host is reached by the others, who pass on what outside workers tell them about its steps.
ALTER TABLE hosts ADD COLUMN url text;
