#include "test_main.h"

// In Swift: TestSupport/LoopOfTests.swift.
void prov_install_event_loop(void);

// The executors have to be chosen before the test runner's main, which is not ours, makes its first task.
__attribute__((constructor)) static void choose_executors(void) { prov_install_event_loop(); }
