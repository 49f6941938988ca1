"""FeaturesInput: where a network begins that is built without its front-end, and what front-end it wants."""

import keras


@keras.saving.register_keras_serializable("tfmusictag")
class FeaturesInput(keras.layers.InputLayer):
    """An input of features that says which front-end they must be of; a saved model says so as well.

    Args:
        frontend: `{"layer": its class, "settings": its settings}`, as `Frontend.facts` gives it.
        **kwargs: of `keras.layers.InputLayer`.
    """

    def __init__(self, frontend=None, **kwargs):
        super().__init__(**kwargs)
        self.frontend = frontend

    def get_config(self):
        return {**super().get_config(), "frontend": self.frontend}
