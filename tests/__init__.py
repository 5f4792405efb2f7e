"""Tests, in folders named as the packages they test.

This folder is a package so that `tests.support` is ours, whatever else is installed by that name.
"""
