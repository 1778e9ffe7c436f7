# SPDX-License-Identifier: Apache-2.0
"""Files of pretrained weights to parameter trees and back."""
