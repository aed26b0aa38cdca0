#include "socket.h"

struct sockaddr_un {
    int sun_family;
    char sun_path[108];
};
