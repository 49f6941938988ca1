from setuptools import find_packages, setup

# The weights lie beside the package in a checkout and within it once it is installed.
setup(
    packages=[*find_packages(include=["tfmusictag*"]), "tfmusictag.saved_models"],
    package_dir={"tfmusictag.saved_models": "saved_models"},
)
