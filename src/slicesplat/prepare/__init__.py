"""From files to stacks that can be registered: what is measured where, what is region, what can be believed."""
