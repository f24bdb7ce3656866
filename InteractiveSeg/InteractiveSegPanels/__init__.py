"""The parts of the module's page: study, examples, lesions. They know widgets and the bridge, and no model by name."""
