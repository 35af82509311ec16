"""Environments. Importing this package makes their ids known to Gymnasium.

Gymnasium finds an environment by importing the module in front of the colon: `gymnasium.make("vlkit.envs:vlkit/R2R-v0")`
needs no import of vlkit, `gymnasium.make("vlkit/R2R-v0")` needs `import vlkit.envs` first.
"""

import gymnasium


def register() -> None:
    """Adds the ids below to Gymnasium's registry; an id that is there already stays as it is."""
    if "vlkit/R2R-v0" not in gymnasium.registry:
        gymnasium.register(
            id="vlkit/R2R-v0",
            entry_point="vlkit.envs.graph:R2REnv",
            vector_entry_point="vlkit.envs.graph:R2RVectorEnv",
            # Our tests run Gymnasium's full checker once; its passive one would look at every step of every user.
            disable_env_checker=True,
        )
    if "vlkit/HouseNav-v0" not in gymnasium.registry:
        gymnasium.register(
            id="vlkit/HouseNav-v0",
            entry_point="vlkit.envs.navigation:HouseNavEnv",
            vector_entry_point="vlkit.envs.navigation:NavigationVectorEnv",
            disable_env_checker=True,
        )


register()
