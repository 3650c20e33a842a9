import tyro

from ddpm_lib.metrics.digits import write_classifier

if __name__ == "__main__":
    tyro.cli(write_classifier, prog="python -m ddpm_lib.metrics")
