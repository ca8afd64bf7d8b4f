/* Load the weights: from the file that is named, or weights.bin in the folder of the program. */
static void find_weights(int argc, char **argv)
{
    static char path[4096];
    const char *name = argc > 1 ? argv[1] : path;
    if (argc <= 1) {
        const char *slash = strrchr(argv[0], '/');
        const size_t folder = slash == NULL ? 0 : (size_t)(slash - argv[0]) + 1;
        if (folder + sizeof "weights.bin" > sizeof path) {
            fprintf(stderr, "%s must be called by a shorter path, or with the file of weights as argument\n", argv[0]);
            exit(3);
        }
        memcpy(path, argv[0], folder);
        strcpy(path + folder, "weights.bin");
    }
    if (model_load(name) != 0) {
        fprintf(stderr, "%s must be the weights of this model, written with it; name the file as argument\n", name);
        exit(3);
    }
}
