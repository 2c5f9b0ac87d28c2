import jax

from lga_jax.suggest.machine import this_machine


def test_the_machine_of_the_tests_is_a_cpu_with_memory():
    machine = this_machine()
    assert machine.is_cpu and machine.num_devices == jax.local_device_count() and machine.num_cores >= 1
    assert machine.num_bytes is None or machine.num_bytes > 2**20
