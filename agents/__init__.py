"""Effects: the Faust apps, the uplink, the topics, the commands. Agents never import one another."""
