# habitat-sim under a Python of its own, for sources with `engine: habitat` (docs/scenes.md).
#   docker build -f docker/habitat.Dockerfile -t mimic-habitat docker
# Nothing of mimic is inside: the worker program is mounted, and started by `habitat.command` of params.yaml.
FROM mambaorg/micromamba:2.3.3@sha256:800e7ade3ffe29c9a9ac2026163131495f8197c3852e572c5835beb4e8a33cd6

USER 0
# EGL and Mesa: with gpu_device_id -1 scenes render on a processor, too.
RUN apt-get update && apt-get install -y --no-install-recommends libegl1 libgl1 libgl1-mesa-dri libglvnd0 libopengl0 && rm -rf /var/lib/apt/lists/* \
    && mkdir -p /usr/share/glvnd/egl_vendor.d \
    && echo '{"file_format_version": "1.0.0", "ICD": {"library_path": "libEGL_nvidia.so.0"}}' > /usr/share/glvnd/egl_vendor.d/10_nvidia.json
# The number of $MAMBA_USER in the base.
USER 57439

# The stable channel has 0.3.3 for Python 3.9 only.
RUN micromamba install -y -n base -c conda-forge -c aihabitat python=3.9 habitat-sim=0.3.3 headless && micromamba clean -ay

# Without "graphics" the driver's EGL library stays outside, and habitat-sim aborts.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility
CMD ["python", "-c", "import habitat_sim; print(habitat_sim.__version__)"]
