"""What ``alt doctor`` looks at: each finding with its remedy.

``host`` needs no robot; ``live`` judges what ``nodes.topic_survey`` heard, and imports no ROS.
"""

from alt_ros.diagnosis.finding import Finding as Finding
from alt_ros.diagnosis.host import examine as examine
