//! Blocking sockets with deadlines, and the waiting room for connections that have not logged in
