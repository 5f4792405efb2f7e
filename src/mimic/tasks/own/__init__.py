"""Labelled folders of your own: which file belongs to which, what is trained on and what is scored,
and photographs as their labels see them. What a label means is each family's: `depth.own`,
`segmentation.own`, `imagenet.own`.
"""
