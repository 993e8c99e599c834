# Snakemake runs this in the environment that it has made from data.yaml, in the project's folder.
python tools/install_encoder.py
