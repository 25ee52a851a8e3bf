"""How the face models are trained; never imports Beam, and MediaPipe only in 10 and 13: it runs on a bare GPU machine.

In order, each a `python -m mien.models.training.NAME --help`:

1. generator_import: the published generator (teacher) in mien's layout
2. recogniser_import: the published recogniser
3. samples: pairs of style and picture from the teacher
4. heads: the generator's heads for 128 and 256 px
5. basis: the coordinates in which styles are coded
6. train: the encoder
7. export: the package's weights, static tables included
8. layers: directions and tables of the layers beyond the base
9. style: the encoder for the style layer
10. person: what new people are drawn with by models/privacy/deidentify.py
11. privacy: re-identification of faces after that
12. magnify: the network that guesses latents from small faces
13. targets: training faces refined once, for an encoder and steps that learn from it
14. understanding: the reading that tells a face from what is none, covered or turned

FACES in their commands is a folder of aligned real faces as JPEG files of 512 px: train, train256 (of 256 px) and
wild_train are learned from, dev and wild_dev held back; a person is on one side only. models/weights/README.md says
which faces the published weights are made of; they are not in the repository.

What came out is measured by `mien evaluate FOLDER... --weights WEIGHTS --output OUT`.

On a busy machine with two cores set first (2 to 5 times):
MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=20000000000 MALLOC_TOP_PAD_=268435456 MALLOC_ARENA_MAX=1
OMP_WAIT_POLICY=passive
"""
