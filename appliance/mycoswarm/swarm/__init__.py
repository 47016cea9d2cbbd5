"""Layer 2: who is here and how to reach them: identity, enrolment, roster, discovery, channels."""
