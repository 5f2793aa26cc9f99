#SPDX - License - Identifier : Apache - 2.0
#Goldens are safetensors files.
target_link_libraries(test_codec PRIVATE nibble_checkpoint)
