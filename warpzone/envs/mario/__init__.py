"""Super Mario Bros: levels, actions, observations, rewards and a planner."""
