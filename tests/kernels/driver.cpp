// Runs one launch that simulated.py wrote to a file, as a program of its own: sanitizers do not work inside Python.
// Included behind the kernel and shim_launch.
//
// File, all numbers int64: grid x y z, threads, shared bytes; numbers of arguments, frames and moves; then for each
// argument and frame: is it an array, its size in bytes, its address modulo 16, its bytes; then for each move
// (argument, byte, frame, byte): the argument holds the address of that byte of the frame.
// What the arguments hold afterwards is written back over them.

#include <fstream>
#include <iostream>

struct Piece {
    std::vector<char> memory;  // of exactly the size, so that a step beyond its end is seen
    char* bytes;
    int64_t size;
    std::streampos at;
    bool is_array;
};

int main(int, char** argv)
{
    std::fstream file(argv[1], std::ios::in | std::ios::out | std::ios::binary);
    auto number = [&] {
        int64_t value;
        file.read((char*)&value, sizeof value);
        return value;
    };
    int64_t shape[5];
    for (int64_t& value : shape) value = number();
    const int64_t num_arguments = number(), num_frames = number(), num_moves = number();
    std::vector<Piece> pieces(num_arguments + num_frames);
    for (Piece& piece : pieces) {
        piece.is_array = number();
        piece.size = number();
        const int64_t lead = number();  // malloc's own addresses are multiples of 16
        piece.at = file.tellg();
        piece.memory = std::vector<char>(lead + piece.size);
        piece.bytes = piece.memory.data() + lead;
        file.read(piece.bytes, piece.size);
    }
    for (int64_t i = 0; i < num_moves; ++i) {
        char* place = pieces[number()].bytes;
        place += number();
        char* target = pieces[number()].bytes;
        target += number();
        std::memcpy(place, &target, sizeof target);
    }
    std::vector<void*> pointers;
    for (int64_t i = 0; i < num_arguments; ++i)
        pointers.push_back(pieces[i].is_array ? (void*)&pieces[i].bytes : pieces[i].bytes);
    const char* error = shim_launch(shape, pointers.data());
    if (error) {
        std::cerr << "shim: " << error << "\n";
        return 3;
    }
    for (int64_t i = 0; i < num_arguments; ++i)
        if (pieces[i].is_array) file.seekp(pieces[i].at).write(pieces[i].bytes, pieces[i].size);
}
